"""The providers of the catalogue as a tenant sees them."""
