"""How bytes reach a ps task: gRPC, sockets, shared memory, or a call in this process. Imports only values."""
