//! What the stories under `it/` share: the tools they start beside the system. It has no story of its own.
