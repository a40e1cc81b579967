"""What can be claimed of this house, computed from records only, by whoever wants to know."""
