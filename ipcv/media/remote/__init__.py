"""Videos behind URLs: copied to this machine, with bounds on size, on time and on where redirects lead."""
