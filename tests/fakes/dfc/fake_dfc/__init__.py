"""How the stand-in for the Dataflow Compiler does it; nothing here is part of the documented API."""
