"""Measurements behind one decision each; the decision's page names its command."""
