/* SPDX-License-Identifier: MIT */

/*
 * Three signs. nftables' chains of type nat that have rules (also what iptables-nft makes), by netlink, for who has
 * CAP_NET_ADMIN; the legacy tables' names, for root; and for everybody the module nf_nat, where something uses it. That none is
 * seen is no proof that there is none.
 */

#include "client/translated.h"

#include <arpa/inet.h>
#include <libmnl/libmnl.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <sys/time.h>

#include "common/buf.h"

/* What a message says of one chain; the texts are the message's. */
struct told {
	const char *table, *name, *type;
	uint32_t rules;
};

struct chain {
	char table[64], name[64];
	bool found;
};

static int on_attribute(const struct nlattr *attribute, void *context)
{
	struct told *told = context;
	uint16_t kind = mnl_attr_get_type(attribute);
	bool text = mnl_attr_validate(attribute, MNL_TYPE_NUL_STRING) >= 0;

	if (kind == NFTA_CHAIN_USE && mnl_attr_validate(attribute, MNL_TYPE_U32) >= 0)
		told->rules = ntohl(mnl_attr_get_u32(attribute));
	else if (kind == NFTA_CHAIN_TABLE && text)
		told->table = mnl_attr_get_str(attribute);
	else if (kind == NFTA_CHAIN_NAME && text)
		told->name = mnl_attr_get_str(attribute);
	else if (kind == NFTA_CHAIN_TYPE && text)
		told->type = mnl_attr_get_str(attribute);
	return MNL_CB_OK;
}

static int on_chain(const struct nlmsghdr *message, void *context)
{
	struct told told = {.table = "", .name = "", .type = ""};
	struct chain *chain = context;

	if (mnl_attr_parse(message, sizeof(struct nfgenmsg), on_attribute, &told) >= 0 &&
		!chain->found && streq(told.type, "nat") && told.rules > 0) {
		chain->found = true;
		snprintf(chain->table, sizeof(chain->table), "%s", told.table);
		snprintf(chain->name, sizeof(chain->name), "%s", told.name);
	}
	return MNL_CB_OK;
}

/* Whatever goes wrong: none is seen. */
static void find_chain(struct chain *ret)
{
	char buffer[16384];
	struct mnl_socket *netlink = mnl_socket_open(NETLINK_NETFILTER);
	const struct timeval patience = {.tv_sec = 1};
	struct nlmsghdr *header = mnl_nlmsg_put_header(buffer);
	struct nfgenmsg *family;
	ssize_t size;
	int r = MNL_CB_OK;

	if (!netlink)
		return;
	header->nlmsg_type = NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_GETCHAIN;
	header->nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
	header->nlmsg_seq = 1;
	family = mnl_nlmsg_put_extra_header(header, sizeof(*family));
	family->nfgen_family = NFPROTO_UNSPEC;
	family->version = NFNETLINK_V0;
	(void)setsockopt(
		mnl_socket_get_fd(netlink), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	if (mnl_socket_bind(netlink, 0, MNL_SOCKET_AUTOPID) == 0 &&
		mnl_socket_sendto(netlink, header, header->nlmsg_len) >= 0)
		while (r > MNL_CB_STOP &&
			(size = mnl_socket_recvfrom(netlink, buffer, sizeof(buffer))) > 0)
			r = mnl_cb_run(buffer, (size_t)size, 1, mnl_socket_get_portid(netlink),
				on_chain, ret);
	(void)mnl_socket_close(netlink);
}

/* Does a line of the file begin with the word; and is its third word, where that is asked for, a number above 0? */
static bool has_line(const char *path, const char *word, bool used)
{
	char line[256], name[64];
	FILE *f = fopen(path, "re");
	bool found = false;
	unsigned size, users;

	if (!f)
		return false;
	while (!found && fgets(line, sizeof(line), f)) {
		users = 0;
		found = sscanf(line, "%63s %u %u", name, &size, &users) >= 1 && streq(name, word) &&
			(!used || users > 0);
	}
	(void)fclose(f);
	return found;
}

char *translated_by(void)
{
	struct chain chain = {.found = false};
	char *text = NULL;

	find_chain(&chain);
	if (chain.found)
		return asprintf(&text, "nftables, chain %s/%s", chain.table, chain.name) < 0 ? NULL
											     : text;
	if (has_line("/proc/net/ip_tables_names", "nat", false) ||
		has_line("/proc/net/ip6_tables_names", "nat", false))
		return strdup("iptables, table nat");
	if (has_line("/proc/modules", "nf_nat", true))
		return strdup("module nf_nat");
	return strdup("");
}

void translated_say(const struct view *v, FILE *out)
{
	_cleanup_(free_p) char *by = v->options->host ? NULL : translated_by();
	char *line = NULL;

	if (!by || *by == '\0')
		return;
	if (asprintf(&line,
		    "This host translates addresses (%s): a port that it translated to belongs to no socket here.",
		    by) < 0)
		return;
	view_wrapped(v, out, line, 0, 2);
	free(line);
}
