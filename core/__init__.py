"""What every room uses: errors, responses, ASGI types, request ids, small data structures. Imports nothing of SkyAuth's own."""
