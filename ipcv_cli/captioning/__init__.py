"""`ipcv caption`: what was asked for, and its run."""
