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
func (sys system) printStatus(r *report, profile string) {
	for _, registry := range r.Registries {
		sys.printRegistry(registry)
	}
	for _, l := range r.Logins {
		sys.printLogin(l)
	}
	switch {
	case len(r.Registries) > 0 || len(r.Logins) > 0:
	case profile == "":
		sys.heading("not logged in")
	default:
		sys.heading("not logged in as profile %q", profile)
		sys.detail("remedy", fmt.Sprintf("%s, to see which logins there are", session.Run(program+" status")))
	}
}

func (sys system) heading(format string, args ...any) {
	fmt.Fprintln(sys.stdout, lineOf(format, args))
}

// detail is a line below a heading; nothing, where there is nothing to say.
func (sys system) detail(name, text string) {
	if text != "" {
		fmt.Fprintf(sys.stdout, "  %-10s%s\n", name, oneLine(text))
	}
}

func (sys system) printRegistry(r registryReport) {
	st := sys.styleFor(sys.stdout)
	if r.State != usable {
		sys.heading("%s: %s", styled(st.bold(r.Address)), styled(st.bad(r.State)))
		if r.Error != r.State {
			sys.detail("why", r.Error)
		}
		sys.detail("remedy", r.remedy)
		sys.detail("context", contextNote(r))
		return
	}
	source := session.Source(r.Source)
	if source == session.FromLogin {
		sys.heading("%s: %s, by the login of profile %s", styled(st.bold(r.Address)), styled(st.good(r.State)), r.Profile)
	} else {
		sys.heading("%s: %s, by the %s, before any login", styled(st.bold(r.Address)), styled(st.good(r.State)), source.Describe())
	}
	who := r.Subject
	if r.user != "" {
		who = r.user + " (" + r.Subject + ")"
	}
	sys.detail("who", who)
	sys.detail("context", contextNote(r))
	if source == session.FromLogin {
		sys.detail("identity", r.Identity)
	} else {
		sys.detail("lasts", sys.lastsOutside(r))
	}
	for _, where := range r.Where {
		sys.detail("secret", where)
	}
	for _, note := range r.Notes {
		sys.detail("note", note)
	}
	if !r.Configured && !r.podmanOnly {
		sys.detail("note", fmt.Sprintf("Docker does not ask for it yet: %s", session.Run(program+" configure --registry "+r.Address)))
	}
}

// contextNote says which context a registry is in, and why.
func contextNote(r registryReport) string {
	if r.Context == "" {
		return ""
	}
	note := r.Context
	switch {
	case r.OwnContext:
		note += ", its own"
	case r.Source == string(session.FromLogin):
		note += ", the login's default"
	}
	note += roleNote(r.RegistryRole, r.Context)
	if r.Address == platform.RegistryHost {
		note += "; also for its other ports"
	}
	return note
}

// roleNote says whether the registry's role is there in a context, as far as
// that is known.
func roleNote(has *bool, contextID string) string {
	switch {
	case has == nil:
		return ""
	case *has:
		return ", with the registry's role"
	}
	return ", WITHOUT the registry's role " + platform.RoleFor(platform.RegistryRole, contextID)
}

func (sys system) printLogin(l loginReport) {
	st := sys.styleFor(sys.stdout)
	set := st.good
	if l.State != usable {
		set = st.bad
	}
	sys.heading("profile %s: %s", styled(st.bold(l.Profile)), styled(set(l.State)))
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
		sys.detail("context", l.Context+roleNote(l.RegistryRole, l.Context))
	}
	sys.detail("identity", l.Identity)
	for _, where := range l.Where {
		sys.detail("secret", where)
	}
	if l.Expires != nil && l.code == exitOK {
		sys.detail("lasts", sys.lastsNow(l))
	}
	sys.detail("serves", servesNote(l))
	for _, note := range l.Notes {
		sys.detail("note", note)
	}
}

// servesNote names the registries of a login, with their context where that is
// their own.
func servesNote(l loginReport) string {
	if len(l.Registries) == 0 {
		return "no registry"
	}
	var serves []string
	for _, address := range l.Registries {
		if own := l.OwnContexts[address]; own != "" {
			address += " (in " + own + ")"
		}
		serves = append(serves, address)
	}
	return strings.Join(serves, ", ")
}

var methodNames = map[store.Method]string{
	store.Password: "password",
	store.APIKey:   "an API key",
	store.KeptKey:  "an API key made for this machine (login --keep)",
	store.Browser:  "the browser (login --web)",
	store.Adopted:  "a token from docker login",
}

func (sys system) lastsNow(l loginReport) string {
	switch store.Method(l.Method) {
	case store.KeptKey:
		return "until you log out or its API key is deleted"
	case store.APIKey:
		return "as long as its API key"
	}
	return fmt.Sprintf("%s more unless it is used; each use renews it", session.InWords(l.Expires.Sub(sys.now())))
}

// lastsOutside is how long what serves without a login does.
func (sys system) lastsOutside(r registryReport) string {
	switch {
	case session.Source(r.Source) != session.FromAccessToken:
		return "as long as its API key"
	case r.expires == nil:
		return ""
	}
	return session.InWords(r.expires.Sub(sys.now())) + " more, and nothing renews it"
}
