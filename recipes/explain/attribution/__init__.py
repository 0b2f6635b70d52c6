"""Attribution: maps of the pixels that decide a score, one method per file."""
