"""The process of a ps task: options, logs, start, heartbeats, end. May import every room; none imports it."""
