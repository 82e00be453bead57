"""Messages of etcd's API, which ``make proto`` generates. Imports none of our other modules."""
