"""Reading video files with FFmpeg: which frames there are, when each is shown, and the right ones decoded."""
