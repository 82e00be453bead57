"""What operations of neural networks compute: functions of arrays with their derivatives. Imports only derivatives."""
