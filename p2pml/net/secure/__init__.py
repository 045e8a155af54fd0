"""The record layer under every connection: noise as libp2p speaks it, read and written in bulk."""
