"""Where a network looks: one method a file."""
