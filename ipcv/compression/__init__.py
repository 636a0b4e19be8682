"""The methods that save work, one file each, and the registry that names them."""
