"""Python clients of a running `mmseek serve`; their names are in `mmseek.client`."""
