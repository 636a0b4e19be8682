"""The run of `ipcv caption`: its options in the library's terms, its engines, and what it shows."""
