"""What people read: text, pages, progress."""
