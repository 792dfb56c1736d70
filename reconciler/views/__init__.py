"""Plan or outcome to text: no clock, no terminal, no input or output."""
