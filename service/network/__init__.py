"""Networks, each one paper: torch only. Knows no files, no HTTP, no settings."""
