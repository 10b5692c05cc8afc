"""What encoders and rerankers share: specs, checkpoints, devices, and pictures as models see them."""
