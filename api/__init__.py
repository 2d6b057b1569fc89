"""Door 2: the REST API. The only importer of rest_framework."""
