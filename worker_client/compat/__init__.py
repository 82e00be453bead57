"""Names of other libraries, so that their programs run with only an import changed. No other room imports it."""
