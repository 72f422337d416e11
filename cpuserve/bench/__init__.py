"""What users measure: servers, their ceiling, networks and frameworks."""
