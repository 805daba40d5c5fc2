"""Stand-in for the vendor's package of that name; see ../../README.md."""
