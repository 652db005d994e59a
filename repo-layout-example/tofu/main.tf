# What the provider itself keeps out. The host has the same rules again (cloud-init/firewall.nft): one of the two may fail.
resource "hcloud_firewall" "host" {
  name = "host"

  dynamic "rule" {
    for_each = { http = ["tcp", "80"], https = ["tcp", "443"], http3 = ["udp", "443"], tailnet = ["udp", "41641"] }
    content {
      description = rule.key
      direction   = "in"
      protocol    = rule.value[0]
      port        = rule.value[1]
      source_ips  = ["0.0.0.0/0", "::/0"]
    }
  }

  rule {
    description = "ping"
    direction   = "in"
    protocol    = "icmp"
    source_ips  = ["0.0.0.0/0", "::/0"]
  }
}

resource "hcloud_server" "host" {
  for_each = var.hosts

  name         = each.key
  server_type  = each.value.type
  location     = each.value.location
  image        = each.value.image
  firewall_ids = [hcloud_firewall.host.id]
  labels       = { moorline = "host" }

  # Read once, at the first boot: delete the file then.
  user_data = try(file("${var.user_data}/${each.key}.user-data"), null)

  # No ssh_keys: nobody is root. Without one, the provider mails a password for root, which sshd refuses.

  delete_protection  = true
  rebuild_protection = true

  lifecycle {
    # The one-time key in it is used up, and another image is another server. Replacing a host is a decision:
    #   tofu apply -replace='hcloud_server.host["gamma"]'
    ignore_changes = [user_data, image]
  }
}

resource "hcloud_volume" "docker" {
  for_each = { for name, host in var.hosts : name => host if host.volume > 0 }

  name              = "${each.key}-docker"
  size              = each.value.volume
  location          = each.value.location
  format            = "ext4"
  delete_protection = true
}

# Not mounted by the provider: /var/lib/docker must be there before Docker is. See README.md.
resource "hcloud_volume_attachment" "docker" {
  for_each = hcloud_volume.docker

  server_id = hcloud_server.host[each.key].id
  volume_id = each.value.id
  automount = false
}

locals {
  # The host's own name and everything below it, cloud.DOMAIN, id.DOMAIN, ..., for both kinds of addresses.
  records = merge([
    for name, host in var.hosts : {
      for record in setproduct(["", "*."], ["A", "AAAA"]) :
      "${name}/${record[0]}${record[1]}" => {
        name    = "${record[0]}${trimsuffix(host.domain, ".${var.zone}")}"
        type    = record[1]
        address = record[1] == "A" ? hcloud_server.host[name].ipv4_address : hcloud_server.host[name].ipv6_address
      }
    }
  ]...)
}

resource "hcloud_zone_rrset" "host" {
  for_each = local.records

  zone    = var.zone
  name    = each.value.name
  type    = each.value.type
  ttl     = 300
  records = [{ value = each.value.address }]
}

output "addresses" {
  value = { for name, server in hcloud_server.host : name => [server.ipv4_address, server.ipv6_address] }
}
