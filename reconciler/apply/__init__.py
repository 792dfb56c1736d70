"""An apply at work: observing jobs, carrying out a plan, settling the calls in doubt."""
