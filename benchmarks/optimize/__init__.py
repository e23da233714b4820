"""How fast, how small and how true models become: by hand, by other tools, and by `shipworthy.build`."""
