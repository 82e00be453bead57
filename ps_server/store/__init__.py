"""The variables of one ps task, their locks and versions. Imports rules and memory; no log, no transport."""
