"""Questions with right answers, the settings to compare, and their scores."""
