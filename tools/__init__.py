"""Programs for whoever works on the product, and one for strangers: verify_bundle.py."""
