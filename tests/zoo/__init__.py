"""Networks of the vendor's Model Zoo, built from their published architecture; one module for each family."""
