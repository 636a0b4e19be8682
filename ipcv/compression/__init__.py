"""The methods that save work, one file each; registry.py names them: a new method gets its line there."""
