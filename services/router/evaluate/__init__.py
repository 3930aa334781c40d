"""How good the router's own choices are on rows whose outcomes are known: `soma route`."""
