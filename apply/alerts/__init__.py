"""Who is told when exits stop, and how: a duty of the warden that looks, and one thread per target that tells."""
