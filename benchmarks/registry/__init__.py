"""How long a registry takes to answer when it has many versions."""
