"""The audit chain: events are sealed in batches, each seal holds the one before, copies of seals lie outside the
database. docs/audit.md has the bytes, decision 038 the reasons."""
