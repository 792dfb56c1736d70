"""The engine `ray`: jobs of a Ray cluster, one for each run, through the Jobs REST API of its head."""
