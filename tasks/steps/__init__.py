"""Steps by resource. Each class is one fact; its docstring states it, its name is journaled and never reused."""
