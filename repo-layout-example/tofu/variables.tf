variable "hosts" {
  description = "The servers, by the names of their directories below hosts/."
  type = map(object({
    type     = string
    location = string
    image    = optional(string, "debian-13")
    # `DOMAIN` of host.yaml, below `zone`.
    domain = string
    # GB, for the volumes of Docker. 0: none beside the disk of the server.
    volume = optional(number, 0)
  }))
}

variable "zone" {
  description = "The DNS zone, at Hetzner, that all domains lie in."
  type        = string
}

variable "user_data" {
  description = "A directory outside of the repository with NAME.user-data of each host, as `moorline cloud-init NAME` prints it."
  type        = string
  default     = "../../user-data"
}
