"""Other projects' agents on this library's environments (README.md of this folder)."""
