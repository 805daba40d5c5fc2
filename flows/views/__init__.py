"""What a command shows: descriptions for machines, tables and lines for people."""
