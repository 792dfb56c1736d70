"""The engine for the ByteNite Customer API."""
