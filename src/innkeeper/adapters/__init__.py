"""Everything outside: one module or package per system, each the implementation of a port. Vendor errors stop here."""
