/*
 * What stands in for SSSD in a box: the library that sudo loads for "sudoers: sss" of nsswitch.conf, with rules out of
 * a text file and no daemon behind it. A rule is lines "attribute: value", and a blank line ends it; that of "cn:
 * defaults" holds the Defaults. A line "silent: 10" has every answer take ten seconds.
 */
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/types.h>
#include <unistd.h>

#define RULES "/etc/sss-rules"

struct sss_sudo_attr { char *name; char **values; unsigned int num_values; };
struct sss_sudo_rule { unsigned int num_attrs; struct sss_sudo_attr *attrs; };
struct sss_sudo_result { unsigned int num_rules; struct sss_sudo_rule *rules; };

/* What is allocated here lives as long as the one question of sudo's. */
static struct sss_sudo_attr *attribute(struct sss_sudo_rule *rule, const char *name) {
	for (unsigned int i = 0; i < rule->num_attrs; i++)
		if (strcasecmp(rule->attrs[i].name, name) == 0)
			return &rule->attrs[i];
	rule->attrs = realloc(rule->attrs, (rule->num_attrs + 1) * sizeof(*rule->attrs));
	struct sss_sudo_attr *attr = &rule->attrs[rule->num_attrs++];
	memset(attr, 0, sizeof(*attr));
	attr->name = strdup(name);
	return attr;
}

static void add(struct sss_sudo_rule *rule, const char *name, const char *value) {
	struct sss_sudo_attr *attr = attribute(rule, name);
	attr->values = realloc(attr->values, (attr->num_values + 2) * sizeof(*attr->values));
	attr->values[attr->num_values++] = strdup(value);
	attr->values[attr->num_values] = NULL;
}

static int is_defaults(struct sss_sudo_rule *rule) {
	struct sss_sudo_attr *cn = attribute(rule, "cn");
	return cn->num_values > 0 && strcmp(cn->values[0], "defaults") == 0;
}

/* rules reads those that are of the Defaults, or all the others. */
static int rules(int defaults, uint32_t *error, struct sss_sudo_result **result) {
	struct sss_sudo_result *r = calloc(1, sizeof(*r));
	struct sss_sudo_rule rule = {0};
	char line[4096];
	FILE *f = fopen(RULES, "r");
	*result = r;
	*error = ENOENT;
	while (f != NULL) {
		char *got = fgets(line, sizeof(line), f), *value;
		if (got != NULL)
			line[strcspn(line, "\n")] = '\0';
		if (got != NULL && (value = strstr(line, ": ")) != NULL) {
			*value = '\0';
			if (strcmp(line, "silent") == 0)
				sleep((unsigned int)atoi(value + 2));
			else
				add(&rule, line, value + 2);
			continue;
		}
		if (rule.num_attrs > 0 && is_defaults(&rule) == defaults) {
			r->rules = realloc(r->rules, (r->num_rules + 1) * sizeof(*r->rules));
			r->rules[r->num_rules++] = rule;
			*error = 0;
		}
		memset(&rule, 0, sizeof(rule));
		if (got == NULL) {
			fclose(f);
			break;
		}
	}
	return 0;
}

int sss_sudo_send_recv(uid_t uid, const char *username, const char *domain, uint32_t *error, struct sss_sudo_result **result) {
	(void)uid, (void)username, (void)domain;
	return rules(0, error, result);
}

int sss_sudo_send_recv_defaults(uid_t uid, const char *username, uint32_t *error, char **domain, struct sss_sudo_result **result) {
	(void)uid, (void)username;
	if (domain != NULL)
		*domain = NULL;
	return rules(1, error, result);
}

void sss_sudo_free_result(struct sss_sudo_result *result) { (void)result; }

int sss_sudo_get_values(struct sss_sudo_rule *rule, const char *name, char ***values) {
	struct sss_sudo_attr *attr = attribute(rule, name);
	if (attr->num_values == 0)
		return ENOENT;
	*values = calloc(attr->num_values + 1, sizeof(**values));
	for (unsigned int i = 0; i < attr->num_values; i++)
		(*values)[i] = strdup(attr->values[i]);
	return 0;
}

void sss_sudo_free_values(char **values) {
	for (unsigned int i = 0; values != NULL && values[i] != NULL; i++)
		free(values[i]);
	free(values);
}
