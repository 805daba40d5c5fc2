"""The commands, a file each; `flows.cli` lists them."""
