"""The ByteNite Customer API."""
