"""Maintenance: bloat, findings, the plan and its execution, monitoring."""
