"""How fast training is: `measured` on this machine, `planned` for a graphics card that is not here."""
