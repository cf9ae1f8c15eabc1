package main

import (
	"fmt"
	"strings"

	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/platform"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/session"
	"github.com/DownToZero-Cloud/docker-credential-dtz/internal/store"
)

// printStatus is the report for people: what Docker would get at each registry,
// then the logins behind it.
func (sys system) printStatus(r *report) {
	for _, registry := range r.Registries {
		sys.printRegistry(registry)
	}
	for _, l := range r.Logins {
		sys.printLogin(l)
	}
	if len(r.Registries) == 0 && len(r.Logins) == 0 {
		sys.heading("not logged in")
	}
}

func (sys system) heading(format string, args ...any) {
	fmt.Fprintf(sys.stdout, format+"\n", args...)
}

// detail is a line below a heading; nothing, where there is nothing to say.
func (sys system) detail(name, text string) {
	if text != "" {
		fmt.Fprintf(sys.stdout, "  %-10s%s\n", name, text)
	}
}

func (sys system) printRegistry(r registryReport) {
	if r.State != usable {
		sys.heading("%s: %s", r.Address, r.State)
		if r.Error != r.State {
			sys.detail("why", r.Error)
		}
		sys.detail("remedy", r.remedy)
		return
	}
	source := session.Source(r.Source)
	if source == session.FromLogin {
		sys.heading("%s: usable, by the login of profile %s", r.Address, r.Profile)
	} else {
		sys.heading("%s: usable, by the %s, before any login", r.Address, source.Describe())
	}
	if r.Subject != "" {
		sys.detail("who", fmt.Sprintf("%s in context %s", r.Subject, r.Context))
	}
	for _, where := range r.Where {
		sys.detail("secret", where)
	}
	for _, note := range r.Notes {
		sys.detail("note", note)
	}
	if !r.Configured {
		sys.detail("note", fmt.Sprintf("Docker does not ask for it yet: %s", session.Run(program+" configure --registry "+r.Address)))
	}
}

func (sys system) printLogin(l loginReport) {
	sys.heading("profile %s: %s", l.Profile, l.State)
	if l.Error != l.State {
		sys.detail("why", l.Error)
	}
	sys.detail("remedy", l.remedy)
	if l.Subject != "" {
		who := l.Subject
		if l.User != "" {
			who = l.User + " (" + l.Subject + ")"
		}
		sys.detail("who", who+", by "+methodNames[store.Method(l.Method)])
		role := "with the registry's role"
		if !l.RegistryRole {
			role = "WITHOUT the registry's role " + platform.RoleFor(platform.RegistryRole, l.Context)
		}
		sys.detail("context", l.Context+", "+role)
	}
	sys.detail("identity", l.Identity)
	for _, where := range l.Where {
		sys.detail("secret", where)
	}
	if l.Expires != nil && l.code == exitOK {
		sys.detail("lasts", sys.lastsNow(l))
	}
	serves := strings.Join(l.Registries, ", ")
	if serves == "" {
		serves = "no registry"
	}
	sys.detail("serves", serves)
	for _, note := range l.Notes {
		sys.detail("note", note)
	}
}

var methodNames = map[store.Method]string{
	store.Password: "password",
	store.APIKey:   "an API key",
	store.KeptKey:  "an API key made for this machine (login --keep)",
	store.Adopted:  "a token from docker login",
}

func (sys system) lastsNow(l loginReport) string {
	switch store.Method(l.Method) {
	case store.KeptKey, store.APIKey:
		return "as long as its API key"
	}
	return fmt.Sprintf("%s more unless it is used; each use renews it", session.InWords(l.Expires.Sub(sys.now())))
}
