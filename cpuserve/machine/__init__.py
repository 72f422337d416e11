"""What this process may use of the machine, and where each worker sits; knows no OpenVINO and no HTTP."""
