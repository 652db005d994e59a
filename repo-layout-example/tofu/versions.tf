terraform {
  required_version = ">= 1.8"

  required_providers {
    hcloud = {
      source  = "hetznercloud/hcloud"
      version = "~> 1.56" # the first with DNS zones
    }
  }

  # The state holds the user-data, and with it a key that was good once. Keep it where only operators read it, encrypted.
}

# HCLOUD_TOKEN is read from the environment.
provider "hcloud" {}
