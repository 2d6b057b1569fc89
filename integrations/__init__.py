"""Other systems that SkyAuth talks to."""
